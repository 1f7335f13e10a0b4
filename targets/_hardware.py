"""What this machine is, read from the operating system; nothing is started or loaded."""

import platform
from functools import lru_cache
from pathlib import Path

CPU_INFO = Path("/proc/cpuinfo")
PCI_DEVICES = Path("/sys/bus/pci/devices")


@lru_cache(maxsize=1)
def cpu_name() -> str:
    """→ e.g. "AMD EPYC 9655", or the architecture where the system does not tell"""
    if CPU_INFO.is_file():
        for line in CPU_INFO.read_text(errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def pci_ids() -> frozenset[str]:
    """→ {"1022:1502", ...}: vendor:device of everything on the PCI bus; empty where there is none to see"""
    found = set()
    for device in PCI_DEVICES.glob("*"):
        vendor, product = device / "vendor", device / "device"
        if vendor.is_file() and product.is_file():
            found.add(":".join(part.read_text().strip().removeprefix("0x") for part in (vendor, product)))
    return frozenset(found)
