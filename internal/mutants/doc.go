// Command mutants shows that the tests can fail: it plants one bug after the other
// into a copy of the tree, and has the test run that must catch it.
//
//	go run ./internal/mutants              all, as make mutants does
//	go run ./internal/mutants -only 07 -v  one, and what its test says
//	go run ./internal/mutants -check       whether each applies and compiles, in make check
//
// A planted bug is a file patches/NN-name.patch: a header, and below it a unified
// diff that any patch -p1 takes.
//
//	Bug: what is wrong, in a line
//	Harm: what it would do to a user
//	Caught-by: go test -race -run '^TestX$' ./dispatcher
//
//	--- a/dispatcher/recorder.go
//	+++ b/dispatcher/recorder.go
//	…
//
// A hunk goes where its old lines stand, wherever that is; they must stand in the
// file exactly once, so give it as many lines of context as that takes. The line
// numbers are for other programs.
//
// Caught means: that test ran and said FAIL. A bug that does not apply or compile,
// or makes the test hang, is not caught. Before anything is planted every test of
// the table must pass on the copy as it is.
//
// A new promise gets a test, a way to break it gets a patch here. Where no test
// catches it, the test is what is missing.
//
//	main.go        the run and the table
//	patch.go       reads and applies a patch
//	tree.go        the copy
//	command.go     go test, and what its output says
//	compile.go     type-checks patched packages, for -check
package main
