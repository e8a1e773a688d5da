package typeid

// alphabet is Crockford's base32, lower case: no i, l, o or u.
const alphabet = "0123456789abcdefghjkmnpqrstvwxyz"

// encodedLen is the length of 128 bits in base32; the first character holds
// only the top three of them.
const encodedLen = 26

// values maps a byte to its five bits; 0xff marks bytes outside the alphabet.
var values = func() (v [256]byte) {
	for i := range v {
		v[i] = 0xff
	}
	for i := range len(alphabet) {
		v[alphabet[i]] = byte(i)
	}
	return v
}()

// appendEncoded appends the 26 characters of u to dst.
func appendEncoded(dst []byte, u *[16]byte) []byte {
	var out [encodedLen]byte
	// From the right: five bits at a time out of a sliding window.
	var window, bits uint
	at := encodedLen
	for i := 15; i >= 0; i-- {
		window |= uint(u[i]) << bits
		for bits += 8; bits >= 5; bits -= 5 {
			at--
			out[at] = alphabet[window&31]
			window >>= 5
		}
	}
	out[0] = alphabet[window&31]
	return append(dst, out[:]...)
}

// decode reads 26 characters into u; it reports false for a character outside
// the alphabet and for a value of more than 128 bits.
func decode(u *[16]byte, s string) bool {
	if values[s[0]] > 7 {
		return false
	}
	var window, bits uint
	at := 16
	for i := encodedLen - 1; i >= 0; i-- {
		v := values[s[i]]
		if v == 0xff {
			return false
		}
		window |= uint(v) << bits
		for bits += 5; bits >= 8 && at > 0; bits -= 8 {
			at--
			u[at] = byte(window)
			window >>= 8
		}
	}
	return true
}
