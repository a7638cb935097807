"""A progress bar for the iterations of a fit."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["progress_bar"]


@contextmanager
def progress_bar(wanted: bool, total: int) -> Iterator[Callable[[int, str], None]]:
    """A function that shows how many of the iterations are done, and a text, on stderr, if that is wanted and a
    terminal.
    """
    if not wanted:
        yield lambda completed, text: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=total)
        yield lambda completed, text: bar.update(task, completed=completed, description=text)
