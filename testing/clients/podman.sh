#!/bin/bash
# testing/clients/podman.sh [BIN] - podman 4.x on its CNI backend with our executables in place of the Go ones, in a network
# and a mount namespace of its own, with storage, networks and state in a directory that goes at the end: network create, run
# -p, two networks, disconnect and connect, a flushed ruleset, a port twice, a fixed address, rm. Prints what it does, as in
# docs/podman.md, and ends with 0 if all of it was as it should be.
# Needs root, podman, conmon and runc, busybox-static and nft. PODMAN_ROOT: a directory into which Debian's packages were
# unpacked (dpkg -x), where they are not to be installed, since podman's brings a network into /etc/cni/net.d.
set -u
if [ "${1:-}" != --inside ]; then
  bin=$(realpath "${1:-$(dirname "$0")/../../dist/bin}")
  dir=$(mktemp -d /var/tmp/netctl-podman-XXXXXX)
  unshare --mount --net bash "$0" --inside "$bin" "$dir"
  code=$?
  rm -rf "$dir"
  exit $code
fi
bin=$2 dir=$3 root=${PODMAN_ROOT:-}
failed=0
mount --make-rprivate /
mount -t tmpfs tmpfs /run
mkdir -p /run/netns /run/lock "$dir"/{net,tmp,vol,image}
if [ -n "$root" ]; then
  mount -t overlay overlay -o "lowerdir=$root/etc:/etc" /etc
  export LD_LIBRARY_PATH=$root/usr/lib/x86_64-linux-gnu:$root/lib/x86_64-linux-gnu
fi
cat > "$dir/containers.conf" <<T
[containers]
default_ulimits = []
log_driver = "k8s-file"
apparmor_profile = ""
pids_limit = 0
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
tmp_dir = "$dir/tmp"
volume_path = "$dir/vol"
conmon_path = ["$root/usr/bin/conmon"]
[network]
network_backend = "cni"
cni_plugin_dirs = ["$bin"]
network_config_dir = "$dir/net"
T
export CONTAINERS_CONF=$dir/containers.conf
export NETCTL_STATE_DIR=$dir/state NETCTL_RUN_DIR=/run/netctl NETCTL_NETD_CGROUP=none NETCTL_LOG_FILE=$dir/netd.log
podman() { "$root/usr/bin/podman" --root "$dir/root" --runroot "$dir/runroot" --storage-driver vfs "$@"; }
lan() { ip netns exec lan "$@"; }
run() { echo "# $*"; "$@"; }
check() { # WHAT, then a command that has to succeed
  local what=$1
  shift
  if "$@" > /dev/null 2>&1; then return; fi
  echo "FAILED: $what"
  failed=1
}
reached() { [ "$(lan busybox timeout 2 busybox wget -qO- http://192.0.2.1:8080/)" = hello ]; }
until_reached() {
  for _ in $(seq 50); do reached && return; sleep 0.1; done
  return 1
}

# The host's uplink and a neighbour.
ip link set lo up
ip netns add lan
ip link add up0 type veth peer name eth0 netns lan
ip link set up0 up && ip addr add 192.0.2.1/24 dev up0 && ip route add default via 192.0.2.2
ip -n lan link set eth0 up && ip -n lan addr add 192.0.2.2/24 dev eth0

# An image without a registry: a docker-archive of one layer with busybox.
layer=$dir/image/rootfs
mkdir -p "$layer"/{bin,etc,proc,sys,dev,tmp,root,www}
cp /bin/busybox "$layer/bin/"
for applet in $(busybox --list | grep -vx busybox); do ln -sf busybox "$layer/bin/$applet"; done
echo 'root:x:0:0:root:/root:/bin/sh' > "$layer/etc/passwd"
echo hello > "$layer/www/index.html"
(
  cd "$dir/image" || exit
  tar -C rootfs -cf layer.tar .
  digest=$(sha256sum layer.tar | cut -d' ' -f1)
  printf '{"architecture":"amd64","os":"linux","config":{"Env":["PATH=/bin"],"Cmd":["sh"]},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' "$digest" > config.json
  printf '[{"Config":"config.json","RepoTags":["localhost/busybox:1"],"Layers":["layer.tar"]}]' > manifest.json
  tar -cf busybox.tar manifest.json config.json layer.tar
)
podman load -qi "$dir/image/busybox.tar" > /dev/null || exit 1

run podman network create web
run podman network create db --subnet 10.90.0.0/24
run podman run -d --name a --network web -p 8080:80 localhost/busybox:1 httpd -f -p 80 -h /www
check "a published port from the LAN" until_reached
run lan busybox timeout 2 busybox wget -qO- http://192.0.2.1:8080/
run podman port a
run podman run -d --name b --network web,db localhost/busybox:1 sleep 1000
run podman exec b ip -4 -o addr
check "two networks" podman exec b ip addr show eth1
a=$(podman inspect a --format '{{(index .NetworkSettings.Networks "web").IPAddress}}')
run podman exec b timeout 2 wget -qO- "http://$a/"
check "a neighbour" podman exec b timeout 2 wget -qO- "http://$a/"
check "the published port from inside itself" podman exec a timeout 2 wget -qO- http://192.0.2.1:8080/
run podman network disconnect db b
check "no interface after disconnect" sh -c "[ $(podman exec b ip -4 -o addr | grep -c 10.90.0) = 0 ]"
run podman network connect db b
run podman exec b ip -4 -o addr
run nft flush ruleset
check "the published port after nft flush ruleset" until_reached
run lan busybox timeout 2 busybox wget -qO- http://192.0.2.1:8080/
run podman run --name c --network web -p 8080:80 localhost/busybox:1 true
check "a port that is taken is refused" sh -c "[ $? -ne 0 ]"
run podman run --rm --network db --ip 10.90.0.77 --mac-address 02:00:00:00:00:77 localhost/busybox:1 ip -o addr show eth0
run podman rm -f -t 0 a b c
run podman network rm web db
check "no link is left" sh -c "[ \$(ip -o link | wc -l) = 2 ]"
check "no record is left" sh -c "[ -z \"\$(find $dir/state/journal -type f -not -path '*/.trash/*')\" ]"
check "no element is left" sh -c "! nft list ruleset | grep -q 'comment \"'"
kill "$(cat /run/netctl/netd-*.lock)" 2> /dev/null
[ $failed = 0 ] && echo "all as it should be"
exit $failed
