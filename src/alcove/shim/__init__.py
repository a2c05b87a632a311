"""containerd's shim: one small process for each pod, between containerd and the pod's virtual machine.

Standard library only, and neither asyncio nor anything else that is large: what is imported here is in the memory of
every pod, and what ``start`` imports is in the time of every pod's start (decision 24).
"""
