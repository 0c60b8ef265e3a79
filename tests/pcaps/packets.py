"""The packet builder of the rehearsal, for tests."""

from bunker.open.rehearsal.packets import Conversation, checksum, echo, ethernet, ip, tcp, udp

__all__ = ["Conversation", "checksum", "echo", "ethernet", "ip", "tcp", "udp"]
