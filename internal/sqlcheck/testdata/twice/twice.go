// Package twice has two statements of one name.
package twice

func a() string {
	const sameSQL = "SELECT 1"
	return sameSQL
}

func b() string {
	const sameSQL = "SELECT 2"
	return sameSQL
}
