#!/bin/busybox sh
# First process of the guest: loads the drivers, mounts the root read-only, hands over to the agent.
bb=/bin/busybox
$bb mount -t proc proc /proc
$bb mount -t sysfs sysfs /sys
$bb mount -t devtmpfs devtmpfs /dev
for module in $($bb cat /lib/order); do
    $bb insmod /lib/$module.ko
done
# The root disk may be probed a moment after its driver is loaded.
tries=0
until $bb mount -t squashfs -o ro,nosuid,nodev /dev/vda /new 2>/dev/null; do
    tries=$((tries + 1))
    if [ $tries -gt 500 ]; then
        echo "alcove: no root disk"
        $bb poweroff -f
    fi
    $bb usleep 10000
done
for folder in dev proc sys; do
    $bb mount --move /$folder /new/$folder
done
# Isolated, without site, UTF-8 whatever the locale, and no .pyc is ever written.
exec $bb switch_root /new /usr/bin/python3.11 -I -S -B -X utf8 /opt/alcove/agent
