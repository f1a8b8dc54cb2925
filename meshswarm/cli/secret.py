"""`meshswarm secret`: what tasks must know and nobody else may see."""

import typer

from meshswarm.cli import files

app = typer.Typer(
    no_args_is_help=True, help="Keep passwords and keys for services; nobody is shown them."
)
files.add_to(app, "secret")
