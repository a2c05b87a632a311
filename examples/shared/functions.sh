# Sourced by the examples' `run` scripts: where alcove is, and how a function is put together.
here=$(cd "$(dirname "${BASH_SOURCE[1]}")" && pwd)
root=$(cd "$here/../.." && pwd)
[[ -d $root/.venv/bin ]] && PATH="$root/.venv/bin:$PATH"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Deploys FUNCTION from a folder of Python, with the client for buckets beside it: deploy FUNCTION FOLDER HANDLER OPTIONS...
deploy() {
    local name=$1 folder=$2 handler=$3
    shift 3
    mkdir -p "$work/$name"
    cp -r "$folder"/. "$root/examples/shared/alcove_client.py" "$work/$name/"
    alcove fn deploy "$work/$name" --name "$name" --runtime python3.11 --handler "$handler" "$@"
}

# Makes a bucket unless it is there.
bucket() {
    alcove bucket list --json | grep -q "\"name\": \"$1\"" || alcove bucket create "$1"
}
