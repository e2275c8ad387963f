"""`recallk recipes`: list them, or print one."""

from typing import Annotated

import typer
from rich.table import Table

from recallk.cli.console import console
from recallk.core.text import shown
from recallk.runs.recipes import find_recipe, shipped

app = typer.Typer(help="The recipes: one for each published row, and two on characters, which need no download.")


@app.callback(invoke_without_command=True)
def recipes(context: typer.Context) -> None:
    """List the recipes with the numbers published for them."""
    if context.invoked_subcommand is not None:
        return
    table = Table("recipe", "what it trains", "published")
    for recipe in shipped():
        numbers = [f"{name} {value:.1f}" for name, value in recipe.published.items()]
        table.add_row(recipe.name, recipe.title, ", ".join(numbers or (f"beside {name}" for name in recipe.rows)))
    console.print(table)
    console.print("run one with   recallk train NAME --data PATH      see all of it with   recallk recipes show NAME")


@app.command("show")
def show_recipe(name: Annotated[str, typer.Argument(help="a recipe's name")]) -> None:
    """Print a recipe, ready to be saved, changed and given to `recallk train`."""
    recipe = find_recipe(name)
    print(f"recipe: {shown(recipe.name)}  # whose published numbers a run is shown beside\n{recipe.text}", end="")
