# shellcheck shell=bash
# Makes images without a registry. To be sourced.
#
# An archive of images is made as `docker save` makes it, but without Docker, which would keep every image in it. It
# is the folder $archive until it is sent.

start_archive() { # FOLDER
  archive=$1
  mkdir "$archive"
  echo '[]' > "$archive/manifest.json"
}

# Adds an image of one layer. CONFIGURATION is what a Dockerfile's ENTRYPOINT, ENV and so on become.
add_image() { # NAME ROOT CONFIGURATION
  local id layer
  id=$(jq -r '"image-\(length)"' "$archive/manifest.json")
  layer=$archive/$id.tar
  tar -C "$2" --sort=name --numeric-owner -cf "$layer" .
  jq -n --arg architecture "$(dpkg --print-architecture)" --argjson config "$3" \
    --arg digest "sha256:$(sha256sum "$layer" | cut -d ' ' -f 1)" \
    '{ $architecture, os: "linux", $config, rootfs: { type: "layers", diff_ids: [$digest] } }' > "$archive/$id.json"
  jq --arg name "$1" --arg id "$id" \
    '. + [{ Config: "\($id).json", RepoTags: [$name], Layers: ["\($id).tar"] }]' \
    "$archive/manifest.json" > "$archive/manifest.new"
  mv "$archive/manifest.new" "$archive/manifest.json"
}

send_archive() {
  tar -C "$archive" -c .
}

# Makes a node image of another one, with the archive's images where the kubelet looks for them.
load_archive_into_node() { # FROM TO KEY
  container=$(docker create --interactive --network none --label "inroads.dev/recipe=$3" \
    --entrypoint /usr/local/lib/node/load-images "$1")
  trap 'docker rm --force "$container" > /dev/null' EXIT
  send_archive | docker start --attach --interactive "$container"
  docker commit --change "ENTRYPOINT $(docker image inspect --format '{{json .Config.Entrypoint}}' "$1")" \
    "$container" "$2"
  docker rm "$container"
  trap - EXIT
}

# The name that kubeadm has for the image of a component.
name_of() { # BINARIES VERSION COMPONENT
  "$1/kubeadm" config images list --kubernetes-version "$2" 2> /dev/null | grep -E "/$3:"
}

# Copies programs and plugins of a Debian root, with the libraries they link to, into the root of an image.
copy_programs() { # FROM TO FILE…
  local from=$1 to=$2 folder
  shift 2
  for folder in bin sbin lib lib64; do
    mkdir -p "$to/usr/$folder"
    ln -sfn "usr/$folder" "$to/$folder"
  done
  mkdir -p "$to/tmp"
  chmod 1777 "$to/tmp"
  { printf '%s\n' "$@"; libraries "$from" "$@"; } | sort -u | while read -r file; do
    install -D "$from/$file" "$to/$file"
  done
}

# Asked of each: a plugin may link to what no program does, and some programs link to nothing.
libraries() { # ROOT FILE…
  local root=$1 file
  shift
  for file; do
    chroot "$root" ldd "/$file" 2> /dev/null | grep -oE '/[^ ]+\.so[^ ]*' || true
  done
}
