"""The description of the API, as OpenAPI 3.1 has it."""

from typing import Any

from recallk.serve.limits import MOST_BYTES
from recallk.serve.requests import MOST_PAGES, MOST_QUERIES, MOST_RESULTS, Asked

_TEXT = {"type": "string"}


def _answer(description: str, schema: str) -> dict[str, Any]:
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
    return {"description": description, "content": content}


_ERROR = _answer("refused, with the reason", "Error")
_FOUND = _answer("what was found", "Results")
_AWAY = _answer("the collection that is served does not answer", "Error")
_REFUSED = {"400": _ERROR, "404": _ERROR, "503": _AWAY}
_PROPERTIES: dict[str, Any] = {
    "id": {"type": "array", "items": _TEXT, "description": "ids in the catalogue"},
    "text": {"type": "array", "items": _TEXT, "description": "of a catalogue of texts: what is looked for, in words"},
    "k": {"type": "integer", "minimum": 1, "maximum": MOST_RESULTS, "default": Asked.k, "description": "results"},
    "offset": {
        "type": "integer",
        "minimum": 0,
        "maximum": MOST_PAGES - MOST_RESULTS,
        "default": 0,
        "description": "from which place in the list on",
    },
    "where": {
        **_TEXT,
        "description": "a condition on the columns, such as colour = 'red' and price < 20; see docs/catalogue.md",
    },
}
_ID = {"name": "id", "in": "path", "required": True, "schema": _TEXT}
DESCRIPTION: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {
        "title": "recallk: search in a catalogue",
        "version": "1",
        "description": f"At most {MOST_QUERIES} ids, texts and images in a search, which is then for their mean, and "
        f"{MOST_BYTES // 10**6} MB in a request.",
    },
    "paths": {
        "/search": {
            "get": {
                "summary": "search by ids, or texts",
                "parameters": [
                    {
                        "name": name,
                        "in": "query",
                        "schema": schema,
                        "description": schema["description"],
                        "required": False,
                    }
                    for name, schema in _PROPERTIES.items()
                ],
                "responses": {"200": _FOUND, **_REFUSED},
            },
            "post": {
                "summary": "search by images, by texts, by ids, or by several together",
                "requestBody": {
                    "content": {
                        "multipart/form-data": {
                            "schema": {
                                "type": "object",
                                "properties": {
                                    "image": {"type": "array", "items": {"type": "string", "format": "binary"}},
                                    **_PROPERTIES,
                                },
                            }
                        },
                        "application/json": {"schema": {"type": "object", "properties": _PROPERTIES}},
                    }
                },
                "responses": {"200": _FOUND, **_REFUSED, "413": _ERROR, "415": _ERROR},
            },
        },
        "/items/{id}": {
            "get": {
                "summary": "what is known of an item",
                "parameters": [_ID],
                "responses": {
                    "200": _answer("the item", "Item"),
                    "404": _ERROR,
                },
            }
        },
        "/pictures/{id}": {
            "get": {
                "summary": "the image of an item, scaled down",
                "parameters": [_ID, {"name": "side", "in": "query", "schema": {"enum": [192, 768], "default": 192}}],
                "responses": {"200": {"description": "a JPEG", "content": {"image/jpeg": {}}}, "404": _ERROR},
            }
        },
        "/about": {
            "get": {
                "summary": "the catalogue: its name, how many items, and their columns",
                "responses": {"200": {"description": "about it", "content": {"application/json": {}}}},
            }
        },
    },
    "components": {
        "schemas": {
            "Item": {
                "type": "object",
                "required": ["id", "similarity"],
                "properties": {
                    "id": _TEXT,
                    "similarity": {"type": "number", "description": "the cosine; 1 of an item by itself"},
                    "picture": {"type": ["string", "null"], "description": "where its image is"},
                },
                "additionalProperties": {"description": "the columns that are known of it"},
            },
            "Results": {
                "type": "object",
                "properties": {
                    "results": {"type": "array", "items": {"$ref": "#/components/schemas/Item"}},
                    "offset": {"type": "integer"},
                    "more": {"type": "boolean", "description": "whether there are further ones"},
                },
            },
            "Error": {"type": "object", "properties": {"error": _TEXT}},
        }
    },
}
