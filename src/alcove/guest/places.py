"""Where a pod's guest keeps what containers are made of. All of it is ours: a container sees the parts it is given."""

HOME = "/run/alcove"
IMAGES = f"{HOME}/images"
DISKS = f"{HOME}/disks"
SHARES = f"{HOME}/shares"
NFS = f"{HOME}/nfs"
FILES = f"{HOME}/files"
CONTAINERS = f"{HOME}/containers"
# The disk that holds what containers write.
SCRATCH = f"{HOME}/scratch"
CRUN = f"{HOME}/crun"
