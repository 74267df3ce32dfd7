"""Which partition an org belongs to: murmur2 of its id, as the Java client does it.

Owns: the partition function that gateways, the API and the worker have to agree on.
Called by: the posting core (misplaced records), the command client, the gateway library.
Source of the algorithm: org.apache.kafka.common.utils.Utils.murmur2 and
DefaultPartitioner (positive hash modulo the partition count), which aiokafka ports.
"""

from __future__ import annotations

_MASK = 0xFFFFFFFF
_M = 0x5BD1E995


def murmur2(data: bytes) -> int:
    """Return the unsigned 32-bit murmur2 hash that Kafka's default partitioner uses."""
    length = len(data)
    h = (0x9747B28C ^ length) & _MASK
    whole = length & ~3
    for i in range(0, whole, 4):
        k = int.from_bytes(data[i : i + 4], "little")
        k = (k * _M) & _MASK
        k ^= k >> 24
        k = (k * _M) & _MASK
        h = ((h * _M) & _MASK) ^ k
    tail = data[whole:]
    if tail:
        h ^= int.from_bytes(tail, "little")
        h = (h * _M) & _MASK
    h ^= h >> 13
    h = (h * _M) & _MASK
    return h ^ (h >> 15)


def partition_of(org: str, partitions: int) -> int:
    """Return the partition of an org among `partitions`."""
    return (murmur2(org.encode()) & 0x7FFFFFFF) % partitions
