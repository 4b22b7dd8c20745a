"""`holdfast completion`: what makes a shell complete commands and options."""

import click
from click.shell_completion import get_completion_class

__all__ = ["completion_command"]

PROGRAM, VARIABLE = "holdfast", "_HOLDFAST_COMPLETE"


@click.command("completion", short_help="Have a shell complete these commands.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion_command(ctx: click.Context, shell: str) -> None:
    """Print a shell's completion of this command line.

    \b
    Examples:
      holdfast completion bash > ~/.local/share/bash-completion/completions/holdfast
      holdfast completion zsh > ~/.zfunc/_holdfast
      holdfast completion fish > ~/.config/fish/completions/holdfast.fish
    """
    found = get_completion_class(shell)
    assert found is not None, "one of click's own"
    click.echo(found(ctx.find_root().command, {}, PROGRAM, VARIABLE).source())
