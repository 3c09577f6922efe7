#!/bin/sh
# The first process of a rig's namespaces: makes them look like a machine of their own, then waits and reaps.
# Runs under `unshare` (net, mount, uts, ipc, pid), so whatever it mounts goes away with it. Says that it is ready by
# writing its process id, as the host sees it, to $2/init.pid.
#   $1 host name   $2 folder for this machine's state (kept over a stop)
set -eu
name=$1 state=$2
read -r host_pid rest </proc/self/stat # the host's /proc is still mounted
echo "$name" >/proc/sys/kernel/hostname
mount -t proc proc /proc

# A sysfs for this network namespace, in it the cgroups of this machine: a runtime's go below twill-rig-NAME on the host,
# where `down` finds them.
group=twill-rig-$RIG_OF_TWILL/$name
own_hierarchy() { # HIERARCHY TARGET
  mkdir -p "$1/$group"
  # Of containers from before the power failed: no reboot keeps them, and kubelet would wait for each.
  find "$1/$group" -mindepth 1 -depth -type d -exec rmdir {} + || :
  if [ -e "$1/cpuset.cpus" ] && [ -e "$1/cgroup.clone_children" ]; then
    # Version 1 refuses processes in a cpuset without processors.
    for folder in "$1/${group%/*}" "$1/$group"; do
      cat "$folder/../cpuset.cpus" >"$folder/cpuset.cpus"
      cat "$folder/../cpuset.mems" >"$folder/cpuset.mems"
    done
  fi
  if [ -e "$1/cgroup.subtree_control" ]; then
    for controller in $(cat "$1/${group%/*}/cgroup.controllers"); do
      echo "+$controller" >"$1/${group%/*}/cgroup.subtree_control"
    done
  fi
  mount --bind "$1/$group" "$2"
}
mkdir -p "$state/sys"
mount -t sysfs sysfs "$state/sys"
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
  own_hierarchy /sys/fs/cgroup "$state/sys/fs/cgroup"
else
  mount -t tmpfs -o mode=755 tmpfs "$state/sys/fs/cgroup"
  for hierarchy in /sys/fs/cgroup/*; do
    target=$state$hierarchy
    if [ -L "$hierarchy" ]; then
      cp -P "$hierarchy" "$target" # cpu -> cpu,cpuacct
    else
      mkdir "$target"
      own_hierarchy "$hierarchy" "$target"
    fi
  done
fi
# Moved, and the host's taken away: runc looks for its cgroups in the first mount that it finds, hidden or not.
umount --recursive --lazy /sys
mount --move "$state/sys" /sys

# Folders that belong to a machine. What a runtime unpacks images into cannot itself lie on an overlay.
for folder in etc opt var; do
  mkdir -p "$state/$folder.upper" "$state/$folder.work"
  mount -t overlay overlay -o "lowerdir=/$folder,upperdir=$state/$folder.upper,workdir=$state/$folder.work" "/$folder"
done
for folder in /var/lib/twill /var/lib/containerd /var/lib/containers /var/lib/kubelet /var/lib/cni /etc/cni/net.d /etc/twill /opt/cni/bin; do
  mkdir -p "$state/own$folder" "$folder"
  mount --bind "$state/own$folder" "$folder"
done

exec 3>"$state/init.pid" # the folder is out of sight once /run is ours
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/netns /run/lock
mount --make-rshared /

ip link set lo up
echo "$host_pid" >&3
exec 3>&-
# Reaps whatever loses its parent: `wait` waits for any child, adopted ones too.
trap : TERM
while :; do
  sleep 2147483647 &
  wait $! || :
done
