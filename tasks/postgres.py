"""Postgres: the two databases of a machine whose servers keep their state in PostgreSQL, made where they are absent.

SQLite has one writer at a time, and Prefect's server says `database is locked` where many runs report at once.
"""

import asyncio
import importlib.util
from urllib.parse import urlsplit

from tunemill.errors import ConfigError, MissingExtra, TunemillError

NAMES = ("prefect", "mlflow")


def databases(server: str) -> dict[str, str]:
    """Give the URL of each server's database on a PostgreSQL server, by the driver that it needs; {} for SQLite.

    Args:
        server: postgresql://user:password@host:port, perhaps with a database, in which nothing is written.

    Raises:
        ConfigError: it is no such URL.
        MissingExtra: no driver for MLflow is installed.
        TunemillError: PostgreSQL does not let us in, or does not let us make a database.
    """
    if not server:
        return {}
    parts = urlsplit(server)
    if parts.scheme.partition("+")[0] not in ("postgresql", "postgres") or not parts.hostname:
        raise ConfigError("--postgres takes postgresql://user:password@host:port; this is no such URL")
    if importlib.util.find_spec("psycopg") is None:
        raise MissingExtra("psycopg", "postgres")
    try:
        asyncio.run(_make(parts._replace(scheme="postgresql", path=parts.path.strip("/") or "postgres").geturl()))
    except Exception as error:  # what a driver raises is manifold; the URL has a password, so it is not told
        raise TunemillError(
            f"PostgreSQL at {parts.hostname}:{parts.port or 5432} does not take us ({type(error).__name__}: {error}); "
            f"the user must be allowed to make the databases {' and '.join(NAMES)}, or they must stand"
        ) from error
    drivers = {"prefect": "postgresql+asyncpg", "mlflow": "postgresql+psycopg"}
    return {name: parts._replace(scheme=drivers[name], path=f"/{name}").geturl() for name in NAMES}


async def _make(url: str) -> None:
    import asyncpg

    connection = await asyncpg.connect(url, timeout=10)
    try:
        standing = {row["datname"] for row in await connection.fetch("SELECT datname FROM pg_database")}
        for name in NAMES:
            if name not in standing:
                await connection.execute(f'CREATE DATABASE "{name}"')
    finally:
        await connection.close()
