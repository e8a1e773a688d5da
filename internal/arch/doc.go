// Package arch holds the packages to the architecture: which may import which,
// and which may read the environment. Each rule gives its reason, and a violation
// prints it. There is nothing here to import; the tests are all.
package arch
