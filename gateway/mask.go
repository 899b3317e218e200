package gateway

import "strings"

// mask makes a message fit for a log: what its reader could log in with, or
// hijack a client with, is left out. Lines end here at any LF, as a lenient
// reader would have it.
func mask(msg []byte) string {
	lines := strings.Split(string(msg), "\n")
	secret := false
	for i, line := range lines {
		line = strings.TrimSuffix(line, "\r")
		if line == "" {
			break // the body follows
		}
		if folded := line[0] == ' ' || line[0] == '\t'; !folded {
			name, _, _ := strings.Cut(line, ":")
			if secret = isCredentials(strings.TrimSpace(name)); secret {
				lines[i] = name + ": ***"
				continue
			}
		}
		if secret {
			lines[i] = " ***"
			continue
		}
		lines[i] = maskTokens(line)
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
	const shortest, shown = 26, 6 // a token has 26 characters at least
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
