"""The jars that Spark needs to work on the lake: downloaded and compiled once, kept in the cache."""

from millrace_batch import log_store
from millrace_batch.spark import Jars
from millrace_local import artifacts
from millrace_local.java import find_compiler
from millrace_local.settings import LocalSettings


def spark_jars(settings: LocalSettings, progress: artifacts.Progress = artifacts.ignore_progress) -> Jars:
    """Return them; with a filled cache this takes milliseconds.

    Raises:
        JavaError: there is no JDK that is new enough.
        DownloadError: a file is missing and cannot be had, or is not what was pinned.
        CompilerError: the log stores do not compile.
    """
    compiler = find_compiler(settings.java_home)
    cache_dir = settings.cache_dir.resolve()
    delta = artifacts.fetch_spark_jars(cache_dir, settings.maven_url, progress)
    return Jars(delta=delta, log_store=log_store.build(compiler, delta, cache_dir))
