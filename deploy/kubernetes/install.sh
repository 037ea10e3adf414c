#!/bin/sh
# Puts netctl on a node and keeps netd running there. Everything is put in place whole or not at all, the executables
# first. The network's configuration comes last, and from the agent: it writes the file, whole, once this node is a
# member and knows the network. Until then the node is not ready, and that is what it is.
#
# HOST is the node's root directory, IN what runs a command in the node's own namespaces.
set -eu
HOST=${HOST:-/host}
IN=${IN-nsenter --target 1 --mount --net --}
FROM=${FROM:-/netctl}
NETWORK=${NETWORK:-10-pods}
ACCOUNT=${ACCOUNT:-/var/run/secrets/kubernetes.io/serviceaccount}
OPT=/opt/netctl
STATE=/var/lib/netctl

place() { # FILE DIRECTORY: a running executable is never written to
  cp -p "$1" "$HOST$2/.$(basename "$1").new"
  sync "$HOST$2/.$(basename "$1").new"
  mv "$HOST$2/.$(basename "$1").new" "$HOST$2/$(basename "$1")"
}

mkdir -p "$HOST$OPT/lib" "$HOST$OPT/bin" "$HOST/opt/cni/bin" "$HOST$STATE/kubernetes"
(cd "$FROM" && find lib -type f) | while read -r file; do
  mkdir -p "$HOST$OPT/$(dirname "$file")"
  place "$FROM/$file" "$OPT/$(dirname "$file")"
done
[ ! -e "$FROM/node" ] || place "$FROM/node" $OPT
for file in "$FROM"/bin/*; do
  place "$file" $OPT/bin
  name=$(basename "$file")
  ln -sfn "$OPT/bin/$name" "$HOST/opt/cni/bin/.$name.new"
  mv "$HOST/opt/cni/bin/.$name.new" "$HOST/opt/cni/bin/$name"
done

# The token is renewed: netd reads this copy anew for each request.
copy_account() {
  for file in token ca.crt; do
    (umask 077 && cp "$ACCOUNT/$file" "$HOST$STATE/kubernetes/.$file.new")
    mv "$HOST$STATE/kubernetes/.$file.new" "$HOST$STATE/kubernetes/$file"
  done
}
copy_account

NODE=$OPT/node
[ -e "$HOST$NODE" ] || NODE=node
netctl() { $IN env NETCTL_NODE="$NODE" "$OPT/bin/netctl" "$@"; }

netd=
copier=
# The pod that follows waits until this one has gone: no longer than netd takes to end.
end() {
  trap - TERM INT EXIT
  kill $netd $copier 2>/dev/null || true
  wait $netd || true
  exit "$1"
}
trap 'end 0' TERM INT
trap 'end 1' EXIT
(while sleep 30; do copy_account; done) &
copier=$!
# An ADD or a DEL between two pods has started a netd by itself. That one makes way when its socket has gone.
for attempt in 1 2 3 4 5 6 7 8 9 10; do
  rm -f "$HOST/run/netctl/netd-$(stat -L -c %i /proc/self/ns/net).sock"
  $IN "$NODE" --optimize-for-size "$OPT/lib/netd.cjs" &
  netd=$!
  sleep 2
  ! kill -0 $netd 2>/dev/null || break
done

if [ ! -e "$HOST$STATE/overlay/host.json" ]; then
  until netctl cluster init kubernetes \
    --kubernetes "https://$KUBERNETES_SERVICE_HOST:$KUBERNETES_SERVICE_PORT" \
    --token-file "$STATE/kubernetes/token" --ca "$STATE/kubernetes/ca.crt" \
    --host-name "${NODE_NAME:-$(hostname)}"; do sleep 2; done
fi
# Whoever is first creates it.
netctl network create -d overlay-vxlan -o names=host "$NETWORK" || true

# Without netd there is nothing to keep: kubelet starts this again.
wait $netd
