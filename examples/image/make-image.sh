#!/bin/sh
# Makes an OCI image of busybox's web server and one page, in the folder that is named, from what the machine has: packages umoci and busybox-static.
#   sh make-image.sh page && conduit deploy --image page examples/image
set -eu
here=$(dirname "$0")
target=$1
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
chmod 755 "$root"
mkdir -p "$root/bin" "$root/etc" "$root/srv"
cp /bin/busybox "$root/bin/busybox"
cp "$here/index.html" "$root/srv/index.html"
echo 'web:x:1000:1000::/srv:/bin/busybox' > "$root/etc/passwd"
umoci init --layout "$target"
umoci new --image "$target:latest"
umoci insert --image "$target:latest" "$root" /
umoci config --image "$target:latest" --os linux --architecture amd64 --config.user web --config.workingdir /srv \
  --config.entrypoint /bin/busybox --config.cmd httpd --config.cmd -f --config.cmd -p --config.cmd 8080 --config.exposedports 8080/tcp
umoci gc --layout "$target"
