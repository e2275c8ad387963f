"""`recallk search`: the images of a folder that are most like the queries."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from recallk.cli.console import console, counted, progress, say
from recallk.core.errors import InputError
from recallk.core.text import shown


def search(
    run: Annotated[Path, typer.Argument(help="folder of a finished run")],
    queries: Annotated[list[Path], typer.Argument(metavar="QUERY...", help="images to look for")],
    gallery: Annotated[Path, typer.Option(help="folder of images to search, with all its subfolders")],
    k: Annotated[int, typer.Option(min=1, help="results for each query")] = 8,
    picture: Annotated[Path, typer.Option(help="where to draw the results")] = Path("search.png"),
) -> None:
    """Find the images of a folder that are most like the queries; print a table and draw a picture."""
    from recallk.data.folder import find
    from recallk.data.images import check_image, read_image
    from recallk.models.embedder import load
    from recallk.reporting.pictures import Retrieval, Retrieved, search_picture
    from recallk.retrieval.exact import nearest
    from recallk.runs.folder import RunFolder
    from recallk.training.trainer import workers_of

    if picture.suffix.lower() != ".png" or not picture.parent.is_dir():
        raise InputError(f"--picture {picture}: the name of a .png file in a folder that exists")
    embedder = load(run)
    for query in queries:
        check_image(query)
    found_images = find(gallery)
    images = found_images.images
    for note in found_images.notes:
        say(f"note      {note.message}")
    with progress("embedding the gallery", total=len(images)) as advance:
        embeddings = embedder.embed(images, workers=workers_of(RunFolder(run).read_config()), advance=counted(advance))
    place = {path.resolve(): number for number, path in enumerate(images)}
    found = nearest(embedder.embed(queries), embeddings, k, exclude=_places(queries, place))
    table = Table("query", "rank", "similarity", "image")
    drawn = []
    for query, similarities, indexes in zip(queries, found.similarities.tolist(), found.indexes.tolist(), strict=True):
        results = []
        for rank, (similarity, index) in enumerate(zip(similarities, indexes, strict=True), 1):
            name = images[index].relative_to(gallery).as_posix()
            label = images[index].parent.name
            table.add_row(
                shown(query.name) if rank == 1 else "",
                str(rank),
                f"{similarity:.3f}",
                shown(name),
            )
            results.append(Retrieved(read_image(images[index]), name, label, similarity, None))
        drawn.append(Retrieval(read_image(query), query.name, query.parent.name, results, ""))
    console.print(table)
    search_picture(drawn, picture)
    say(f"drawn in {picture}")


def _places(queries: list[Path], place: dict[Path, int]) -> Any:
    """Where a query is itself in the gallery, it is not its own result."""
    import torch

    return torch.tensor([place.get(query.resolve(), -1) for query in queries])
