#!/bin/busybox sh
# Process 1 of the VM, twice: first in the initramfs, to put this machine's file tree together, then in that tree.
# Nothing that is written stays, except below /out.

in_initramfs() {
	mount -t proc proc /proc
	mount -t sysfs sysfs /sys
	mount -t devtmpfs devtmpfs /dev
	while read -r module; do insmod "/modules/$module"; done < /modules/order
	options=trans=virtio,version=9p2000.L,msize=524288
	# Nobody else writes to what is seen here that matters, so it may be cached.
	mount -t 9p -o "$options,cache=loose,ro" machine /machine
	mount -t 9p -o "$options" out /out
	mount -t tmpfs tmpfs /writes
	mkdir /writes/upper /writes/work
	mount -t overlay -o lowerdir=/machine,upperdir=/writes/upper,workdir=/writes/work overlay /new
	mkdir -p /new/out
	for each in proc sys dev out; do mount --move "/$each" "/new/$each"; done
	mount -t tmpfs tmpfs /new/run
	cp /init /new/run/init.sh
	exec switch_root /new /bin/sh /run/init.sh in-tree
}

in_tree() (
	set -e
	export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
	# ROOT, NODE and MODULES
	. /out/paths.sh
	mkdir -p /dev/pts /dev/shm /run/netns /run/node_modules "/lib/modules/${MODULES##*/}"
	mount -t devpts devpts /dev/pts
	mount -t tmpfs tmpfs /dev/shm
	mount --bind "$MODULES" "/lib/modules/${MODULES##*/}"
	# The repository as it was at the start, since people go on working in the other.
	mount --bind "$ROOT/node_modules" /run/node_modules
	mount -t tmpfs tmpfs "$ROOT"
	tar -C "$ROOT" -xf /out/repository.tar
	mkdir "$ROOT/node_modules"
	mount --move /run/node_modules "$ROOT/node_modules"
	ip link set lo up
	hostname vm
	cd "$ROOT" && "$NODE" scripts/vm/inside.mjs /out
)

if [ "$1" = in-tree ]; then
	in_tree
	/bin/busybox poweroff -f
else
	/bin/busybox --install -s /bin
	PATH=/bin in_initramfs
fi
