"""Where the cube of a region lies, and how its repository is opened.

    {store}/{region}/cube/      an Icechunk repository; its chunks are objects of the days' groups

A repository refers to such chunks by whole addresses, below a place that whoever opens it has to
authorise. So a cube belongs to the place that it was written at: of a store that was moved or
copied, the first update writes it anew.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from urllib.parse import quote

import icechunk

from catalog import aws, objects
from catalog.errors import StoreError
from catalog.retrying import retry

BRANCH = "main"
ROWS_PER_MANIFEST = 32
"""Days whose chunks are listed together: so much at most is written again for one more day."""
CREATED_ELSEWHERE = (
    "can only be created in clean prefixes",
    "config.yaml already exists",
    "branch update conflict: `(None)",
)
"""How Icechunk tells each step of creation in which another process was faster."""


def cube_url(region_url: str) -> str:
    """Where the cube of a region lies."""
    return objects.join(region_url, "cube")


def open_repository(region_url: str) -> icechunk.Repository:
    """The repository of a region's cube; a new one where there is none, or one of another place.

    Raises StoreError.
    """
    # It warns of every repository on a disk, that there two writers may undo each other's commit.
    # Whoever commits last looks once more, and finds what is missing.
    icechunk.set_logs_filter("error")
    url, prefix = cube_url(region_url), container_prefix(region_url)
    with objects.store_errors("open", url):
        saved = icechunk.Repository.fetch_config(_storage(url))
        if saved is not None and prefix not in (saved.virtual_chunk_containers or {}):
            objects.remove_tree(url)
        repository = retry(
            lambda: icechunk.Repository.open_or_create(
                _storage(url),
                config=_config(prefix),
                authorize_virtual_chunk_access=_access(prefix),
            ),
            _is_half_created,
        )
        if icechunk.Repository.fetch_config(_storage(url)) is None:
            repository.save_config()  # a process died that had just begun to create it
    return repository


def open_to_read(region_url: str) -> icechunk.Repository | None:
    """The repository of a region's cube, as it lies there.

    None where there is no cube, or only one that was written for another place, as in a store that
    was copied. Raises StoreError.
    """
    icechunk.set_logs_filter("error")
    url = cube_url(region_url)
    with objects.store_errors("open", url):
        saved = icechunk.Repository.fetch_config(_storage(url))
        if saved is None:
            return None
        prefix = container_prefix(region_url)
        if prefix not in (saved.virtual_chunk_containers or {}):
            return None
        return icechunk.Repository.open(
            _storage(url), authorize_virtual_chunk_access=_access(prefix)
        )


def opening_lines(region_url: str) -> list[str]:
    """What an analyst types to open a region's cube with xarray and Icechunk alone.

    Raises StoreError.
    """
    prefix, path = container_prefix(region_url), _scheme_and_path(cube_url(region_url))[1]
    if objects.is_local(region_url):
        storage, access = f'icechunk.local_filesystem_storage("{path}")', f'{{"{prefix}": None}}'
    else:
        bucket, _, folder = path.partition("/")
        own = ", allow_http=True, force_path_style=True" if aws.endpoint() else ""
        storage = f'icechunk.s3_storage(bucket="{bucket}", prefix="{folder}", from_env=True{own})'
        credentials = f'{{"{prefix}": icechunk.s3_credentials(from_env=True)}}'
        access = f"icechunk.containers_credentials({credentials})"
    return [
        f"cube = icechunk.Repository.open({storage}, authorize_virtual_chunk_access={access})",
        f'cube = xarray.open_zarr(cube.readonly_session("{BRANCH}").store, consolidated=False)',
    ]


def chunk_location(url: str) -> str:
    """The address of an object of a store, as references have it."""
    scheme, path = _scheme_and_path(url)
    return f"{scheme}://{quote(path)}"


def container_prefix(region_url: str) -> str:
    """What has to be authorised: the region, or the nearest folder above that needs no escaping.

    Icechunk finds nothing below a prefix with a blank or the like in it. Raises StoreError where
    only the root of a disk is left.
    """
    scheme, path = _scheme_and_path(region_url)
    folder = PurePosixPath(path)
    while quote(str(folder)) != str(folder):
        folder = folder.parent
    if folder in (PurePosixPath("/"), PurePosixPath(".")):
        raise StoreError(
            f"{region_url} cannot have a cube: the first folder of its path has characters "
            "other than letters, digits, '.', '_', '-' and '~'",
            url=region_url,
        )
    return f"{scheme}://{folder}/"


def _scheme_and_path(url: str) -> tuple[str, str]:
    path = objects.filesystem(url)[1]
    return ("file" if objects.is_local(url) else "s3"), path


def _is_half_created(error: BaseException) -> bool:
    """Whether another process creates the repository at this very moment."""
    return any(words in str(error) for words in CREATED_ELSEWHERE)


def _storage(url: str) -> icechunk.Storage:
    path = objects.filesystem(url)[1]
    if objects.is_local(url):
        return icechunk.local_filesystem_storage(path)
    bucket, _, prefix = path.partition("/")
    return icechunk.s3_storage(
        bucket=bucket,
        prefix=prefix,
        region=aws.storage_options()["client_kwargs"].get("region_name"),
        endpoint_url=aws.endpoint(),
        allow_http=True,
        force_path_style=True,
        from_env=True,
    )


def _config(prefix: str) -> icechunk.RepositoryConfig:
    """What is kept with the repository. Where an object store answers is not among it."""
    splitting = icechunk.ManifestSplittingConfig.from_dict(
        {
            icechunk.ManifestSplitCondition.AnyArray(): {
                icechunk.ManifestSplitDimCondition.DimensionName("time"): ROWS_PER_MANIFEST
            }
        }
    )
    folder = prefix.removeprefix("file://")
    on_disk = folder != prefix
    config = icechunk.RepositoryConfig(
        manifest=icechunk.ManifestConfig(splitting=splitting),
        # To replace an object only if it is still the same one: Amazon can, many others cannot.
        storage=icechunk.StorageSettings(
            unsafe_use_conditional_update=not on_disk and aws.endpoint() is None
        ),
    )
    where = (
        icechunk.local_filesystem_store(folder)
        if on_disk
        else icechunk.s3_store(allow_http=True, force_path_style=True)
    )
    config.set_virtual_chunk_container(icechunk.VirtualChunkContainer(prefix, where))
    return config


def _access(prefix: str) -> dict[str, icechunk.AnyCredential | None]:
    if prefix.startswith("file://"):
        return {prefix: None}
    return icechunk.containers_credentials({prefix: icechunk.s3_credentials(from_env=True)})
