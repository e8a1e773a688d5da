package bench

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"time"
)

// payloadBytes is the size of an event's payload where nothing else is said.
const payloadBytes = 1 << 10

// letters make text that PostgreSQL can't compress, so that large payloads are as
// dear as they may be.
const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

// filler is n letters, the same at each call.
func filler(n int) string {
	random := rand.New(rand.NewPCG(1, 2))
	text := make([]byte, max(n, 0))
	for i := range text {
		text[i] = letters[random.IntN(len(letters))]
	}
	return string(text)
}

// payloadOf is a JSON object of so many bytes.
func payloadOf(bytes int) string {
	return fmt.Sprintf(`{"data":"%s"}`, filler(bytes-len(`{"data":""}`)))
}

// timedFiller leaves room for what timedPayload adds.
var timedFiller = filler(payloadBytes - 45)

// timedPayload is a payload of about 1 KB that says when it was made.
func timedPayload() json.RawMessage {
	return fmt.Appendf(nil, `{"sent_at":%d,"data":"%s"}`, time.Now().UnixNano(), timedFiller)
}
