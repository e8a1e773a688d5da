package dispatcher

import (
	"os"
	"testing"

	"github.com/posthorn/posthorn/internal/pgtest"
)

func TestMain(m *testing.M) {
	if os.Getenv(nodeEnv) != "" {
		runNodeProcess()
		return
	}
	pgtest.Main(m)
}
