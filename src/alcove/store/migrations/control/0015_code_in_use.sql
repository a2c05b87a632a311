-- To tell whether anything still refers to a package or an image costs by that, not by all there is.

CREATE INDEX versions_by_package ON versions (package_sha256);
CREATE INDEX versions_by_image ON versions (image_digest);
CREATE INDEX versions_with_layers ON versions (layers) WHERE layers <> '[]';
CREATE INDEX layer_versions_by_package ON layer_versions (package_sha256);
