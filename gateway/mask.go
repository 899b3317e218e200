package gateway

import "strings"

// lineEnds makes each of CRLF, CR and LF an LF.
var lineEnds = strings.NewReplacer("\r\n", "\n", "\r", "\n")

// mask makes a message fit for a log: what its reader could log in with, or
// hijack a client with, is left out. Lines end as the most lenient reader would
// have it, and the body is looked at too: it may hold messages.
func mask(msg []byte) string {
	lines := strings.Split(lineEnds.Replace(string(msg)), "\n")
	secret := false
	for i, line := range lines {
		name, _, _ := strings.Cut(line, ":")
		folded := strings.HasPrefix(line, " ") || strings.HasPrefix(line, "\t")
		switch {
		case !folded && isCredentials(strings.TrimSpace(name)):
			secret, lines[i] = true, name+": ***"
		case folded && secret:
			lines[i] = " ***"
		default:
			secret, lines[i] = false, maskTokens(line)
		}
	}
	return strings.Join(lines, "\n")
}

func isCredentials(name string) bool {
	switch strings.ToLower(name) {
	case "authorization", "proxy-authorization", "authentication-info", "proxy-authentication-info":
		return true
	}
	return false
}

// maskTokens leaves of each token and seal what tells it from others.
func maskTokens(line string) string {
	const shortest, shown = 20, 6 // the tag and origin of a token alone are 20 characters
	var out strings.Builder
	for rest := line; rest != ""; {
		run := 0
		for run < len(rest) && (rest[run] >= 'a' && rest[run] <= 'z' || rest[run] >= '2' && rest[run] <= '7') {
			run++
		}
		if run >= shortest {
			out.WriteString(rest[:shown] + "***")
		} else {
			run = max(run, 1)
			out.WriteString(rest[:run])
		}
		rest = rest[run:]
	}
	return out.String()
}
