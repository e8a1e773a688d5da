// Package statements has SQL in every form that sqlcheck reads.
package statements

const columns = `id, ` + moreColumns

const oneSQL = `SELECT ` + columns + ` FROM things`

func local() string {
	const twoSQL = "SELECT 1" + (" AS " + "one")
	return twoSQL
}

const (
	threeSQL, notAStatement = "SELECT 3", 4
)
