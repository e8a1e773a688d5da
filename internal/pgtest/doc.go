// Package pgtest gives every test a PostgreSQL database of its own.
//
// A test binary starts one private server when its first test asks for a
// database, migrates a template on it once, and clones that for each test. So
// tests run in parallel, commit what they like, and meet nobody else's rows.
//
//	func TestMain(m *testing.M) { pgtest.Main(m) }
//
//	func TestX(t *testing.T) {
//		db := pgtest.New(t)
//		_, err := db.Pool.Exec(t.Context(), …)
//	}
//
// Roles belong to the server, not to a database: a test that creates or drops one
// is seen by the others in its binary.
package pgtest
