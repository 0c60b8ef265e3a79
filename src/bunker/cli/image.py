"""`bunker image`: builds and checks the sealed image."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click

from bunker.closed.machine.orders import checked_orders, pack
from bunker.errors import ConfigurationError
from bunker.experiment.bundle import read_bundle
from bunker.image import build as recipe
from bunker.image import disk as disks
from bunker.image import manifest as manifests
from bunker.image.kernel import Kind, Variant
from bunker.image.launch import Image, spool_disk_bytes


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


@image.command()
@click.argument("experiment", type=click.Path(path_type=Path), metavar="EXPERIMENT|BUNDLE")
@click.argument("disk", type=click.Path(path_type=Path))
@click.option("--image", "sealed", type=click.Path(path_type=Path), metavar="DIR", help="the sealed image")
@click.option("--diagnostic", type=click.Path(path_type=Path), metavar="DIR", help="a second entry for the boot menu")
@click.option("--mac", required=True, help="hardware address of the interface to the open box")
@click.option("--capture-mac", default=None, help="of the port to capture from, where there are more than these two")
@click.option("--address", required=True, metavar="ADDR/LEN", help="that interface's IPv4 address")
@click.option("--gateway", metavar="ADDR", help="on the way to the open box")
@click.option("--to", "target", required=True, metavar="ADDR:PORT", help="the open box (bunker receive --listen)")
@click.option("--erase", is_flag=True, help="DISK is a device: give up what is on it")
def write(  # noqa: PLR0917 - click passes options by name
    experiment: Path,
    disk: Path,
    sealed: Path | None,
    diagnostic: Path | None,
    mac: str,
    capture_mac: str | None,
    address: str,
    gateway: str | None,
    target: str,
    erase: bool,
) -> None:
    """Write an appliance: a disk or stick that a machine starts from, with EXPERIMENT on it."""
    if disk.exists() and not erase:
        raise ConfigurationError(f"{disk}", "is there already", "Give --erase if nothing on it is needed")
    image_ = Image.open(sealed or recipe.default_place(Kind.SEALED, Variant.METAL))
    other = None if diagnostic is None else Image.open(diagnostic)
    disks.check_kinds(image_.manifest, None if other is None else other.manifest)
    bundle = read_bundle(experiment)
    host, _, port = target.rpartition(":")
    own, _, prefix = address.partition("/")
    orders = checked_orders(
        bundle.digest,
        mac=mac,
        address=own,
        prefix=prefix,
        gateway=gateway,
        target=host,
        port=port,
        capture=capture_mac,
    )
    with tempfile.TemporaryDirectory(prefix="bunker-disk-") as name:
        work = Path(name)
        (work / "run").write_bytes(pack(orders, bundle.content))
        disks.make_esp(work / "esp", image_.directory, diagnostic)
        spool = spool_disk_bytes(bundle)
        parts = disks.layout(work / "esp", image_.directory, diagnostic, work / "run", spool_bytes=spool)
        disks.write_disk(disk, parts)
    _tell(disk, image_.manifest)


def _tell(directory: Path, manifest: manifests.Manifest) -> None:
    identity = manifest.identity
    click.echo(f"image        {directory}")
    click.echo(f"digest       {manifest.digest}")
    click.echo(f"kind         {identity.kind.value}, {identity.variant.value}")
    click.echo(f"root         {identity.root_hash}")
    click.echo(f"kernel       {identity.kernel_source}")
    for file in manifest.files:
        click.echo(f"  {file.sha256}  {file.size:>10}  {file.name}")
