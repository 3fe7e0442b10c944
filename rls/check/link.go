package check

// page explains each code under a heading that is the code.
const page = "https://github.com/gormtenancy/tenancy/blob/main/docs/findings.md"

// URL returns the address of the page that explains the code: what it means, how it is attacked, how it is fixed, and what to do
// if it is meant.
func (c Code) URL() string { return page + "#" + string(c) }
