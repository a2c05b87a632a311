# The length and SHA-256 of the event, as JSON.
digest() {
    sum=$(sha256sum <"$1")
    bytes=$(wc -c <"$1")
    echo "digest of $bytes bytes" >&2
    printf '{"bytes": %d, "sha256": "%s"}' "$bytes" "${sum%% *}"
}
