# The length and SHA-256 of the event, as JSON.
digest() {
    file=$(mktemp)
    cat >"$file"
    sum=$(sha256sum "$file" | cut -d ' ' -f 1)
    bytes=$(wc -c <"$file")
    rm "$file"
    echo "digest of $bytes bytes" >&2
    printf '{"bytes": %d, "sha256": "%s"}' "$bytes" "$sum"
}
