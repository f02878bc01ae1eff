"""How commands show progress: lines on standard error, a bar for downloads when a person watches."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from millrace_local import artifacts

out: Final = Console(highlight=False, soft_wrap=True)
err: Final = Console(stderr=True, highlight=False, soft_wrap=True)


def say(line: str) -> None:
    """Show what happens now."""
    err.print(f"[dim]·[/] {line}")


@contextmanager
def download_bar(what: str = "broker and registry") -> Iterator[artifacts.Progress]:
    """Give a progress function that draws a bar once bytes arrive, or says one line where nobody watches."""
    columns = (TextColumn(f"[dim]·[/] downloading {what}"), BarColumn(), DownloadColumn())
    bar = Progress(*columns, TransferSpeedColumn(), console=err, transient=True)
    task = bar.add_task("")
    begun = False

    def show(done_bytes: int, total_bytes: int) -> None:
        nonlocal begun
        if not begun:
            begun = True
            if err.is_terminal:
                bar.start()
            else:
                say(f"downloading {what} ({total_bytes / 1e6:.0f} MB, once)")
        bar.update(task, completed=done_bytes, total=total_bytes)
        if done_bytes >= total_bytes and err.is_terminal:
            bar.stop()

    try:
        yield show
    finally:
        if begun and err.is_terminal:
            bar.stop()
