"""`bunker image`: builds and checks the sealed image."""

from __future__ import annotations

from pathlib import Path

import click

from bunker.image import build as recipe
from bunker.image import manifest as manifests
from bunker.image.kernel import Kind, Variant


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def image() -> None:
    """The sealed image: the closed box as a machine that nobody can enter."""


@image.command()
@click.option("-o", "target", type=click.Path(path_type=Path), metavar="DIR", help="where; default: the user's cache")
@click.option("--from", "folder", type=click.Path(path_type=Path), metavar="DIR", help="the project's image/ folder")
@click.option("--variant", type=click.Choice([v.value for v in Variant]), default="vm", show_default=True)
@click.option("--diagnostic", "kind", flag_value=Kind.DIAGNOSTIC.value, help="console and shell, never traffic")
@click.option("--quick", "kind", flag_value=Kind.QUICK.value, help="Debian's kernel: for tests, in a minute")
def build(target: Path | None, folder: Path | None, variant: str, kind: str | None) -> None:
    """Build an image from Debian's packages, bit for bit the same each time."""
    chosen = Kind(kind or Kind.SEALED.value)
    place = target or recipe.default_place(chosen, Variant(variant))
    made = recipe.build_image(
        recipe.image_folder(folder),
        place,
        kind=chosen,
        variant=Variant(variant),
        replace=target is None,
        told=lambda line: click.echo(f"building: {line}", err=True),
    )
    _tell(place, made)


@image.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--digest", metavar="HEX", help="the digest that the image must have")
@click.pass_context
def verify(context: click.Context, directory: Path, digest: str | None) -> None:
    """Check an image's files against its manifest. Exit code 1 if anything differs."""
    found = manifests.read(directory)
    wrong = manifests.faults(directory, found)
    if digest is not None and digest.lower() != found.digest:
        wrong.append(f"the digest is {found.digest}")
    _tell(directory, found)
    for line in wrong:
        click.echo(f"refused      {line}")
    context.exit(1 if wrong else 0)


def _tell(directory: Path, manifest: manifests.Manifest) -> None:
    identity = manifest.identity
    click.echo(f"image        {directory}")
    click.echo(f"digest       {manifest.digest}")
    click.echo(f"kind         {identity.kind.value}, {identity.variant.value}")
    click.echo(f"root         {identity.root_hash}")
    click.echo(f"kernel       {identity.kernel_source}")
    for file in manifest.files:
        click.echo(f"  {file.sha256}  {file.size:>10}  {file.name}")
