// Package suite names what is built here: critest of cri-tools.
package suite

import _ "sigs.k8s.io/cri-tools/pkg/validate"
