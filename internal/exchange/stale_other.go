//go:build !unix

package exchange

import "time"

// unseenFor is how long an unused connection is trusted where it can't be looked at.
const unseenFor = time.Second

func (c *conn) came() bool { return time.Since(c.idleSince) > unseenFor }
