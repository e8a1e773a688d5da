// Package foreign has SQL that sqlcheck can't read.
package foreign

import "time"

const badSQL = "SELECT " + time.RFC3339
