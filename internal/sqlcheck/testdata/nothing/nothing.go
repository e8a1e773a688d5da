// Package nothing has no SQL.
package nothing

const other = "SELECT 1"
