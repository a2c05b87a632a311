"""Pages of the uploads under way."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from alcove.buckets.model import Upload
from alcove.buckets.upload_listing import UploadListing

KEYS = st.text(st.sampled_from("ab/"), min_size=1, max_size=4)


@given(
    st.sets(st.tuples(KEYS, st.sampled_from("123")), max_size=20),
    st.text(st.sampled_from("ab/"), max_size=2),
    st.sampled_from(["", "/"]),
    st.integers(1, 5),
)
def test_pages_together_are_the_whole_listing(
    there: set[tuple[str, str]], prefix: str, delimiter: str, limit: int
) -> None:
    uploads = [Upload(id, key, 0) for key, id in sorted(there)]
    wanted, wanted_prefixes = [], set()
    for one in uploads:
        if one.key.startswith(prefix):
            end = one.key.find(delimiter, len(prefix)) if delimiter else -1
            if end < 0:
                wanted.append((one.key, one.id))
            else:
                wanted_prefixes.add(one.key[: end + 1])
    found: list[tuple[str, str]] = []
    prefixes: list[str] = []
    after: tuple[str, str] | None = ("", "")
    while after is not None:
        page = UploadListing(prefix, delimiter, *after, limit).page(uploads)
        assert len(page.uploads) + len(page.prefixes) <= limit
        found += [(one.key, one.id) for one in page.uploads]
        prefixes += page.prefixes
        assert page.after is None or page.after > after
        after = page.after
    assert found == wanted
    assert prefixes == sorted(wanted_prefixes)


def test_without_an_id_all_uploads_of_the_key_are_past() -> None:
    uploads = [Upload("1", "a", 0), Upload("2", "a", 0), Upload("1", "b", 0)]
    assert UploadListing(key="a").page(uploads).uploads == (uploads[2],)
