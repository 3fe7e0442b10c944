package app

import (
	"net/http"
	"strings"
	"testing"
)

// TestWebhookAddressesMustBePublic, in all forms that something on the way may read as an address of this network. None of them is looked up
// by name: package webhooks tests what names have become.
func TestWebhookAddressesMustBePublic(t *testing.T) {
	acme, _ := clients(t, start(t))
	const public = "https://93.184.215.14/hook"
	endpoint := acme.want(http.StatusCreated, http.MethodPost, "/v1/webhooks/endpoints", object{"url": public, "types": []string{"nothing.happens"}})
	hosts := []string{
		"127.0.0.1", "127.1", "127.000.000.001", "2130706433", "017700000001", "0177.0.0.1", "0x7f000001", "0x7f.0.0.1", "0x7f.1", "127.0.0.1.",
		"0", "0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.1",
		"192.0.2.1", "192.88.99.1", "192.168.0.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255",
		"[::]", "[::1]", "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::ffff:10.0.0.1]", "[::ffff:169.254.169.254]", "[::127.0.0.1]",
		"[64:ff9b::7f00:1]", "[64:ff9b::10.0.0.1]", "[64:ff9b:1::7f00:1]", "[2002:7f00:1::]", "[2002:a00:1::]", "[2001::1]", "[2001:db8::1]", "[100::1]",
		"[fc00::1]", "[fd00::1]", "[fe80::1]", "[fe80::1%25eth0]", "[fec0::1]", "[ff02::1]", "[fd00:ec2::254]",
		"localhost", "LOCALHOST", "localhost.", "ip6-localhost", "metadata", "kubernetes", "127.0.0.1%00.example.com", "127。0。0。1", "①②⑦.0.0.1",
		"１２７.0.0.1", "loc\u00adalhost", "", ".", "..", "-", "a..b", "exa mple.com", "user@127.0.0.1", "93.184.215.14:80@127.0.0.1",
		`93.184.215.14\@127.0.0.1`, "93.184.215.14#@127.0.0.1", "93.184.215.14:22", "93.184.215.14:0", "93.184.215.14:99999", "93.184.215.14:443:443", "93.184.215.14:-1",
	}
	addresses := []string{
		"", " ", "/", "//93.184.215.14", "93.184.215.14", "http://93.184.215.14", "HTTP://93.184.215.14", "ftp://93.184.215.14", "file:///etc/passwd",
		"gopher://93.184.215.14", "dict://93.184.215.14", "javascript:alert(1)", "data:,x", "https:93.184.215.14", "https:/93.184.215.14", "https://",
		"https:///93.184.215.14", "unix:///var/run/docker.sock", "https://93.184.215.14#x", "https://u:p@93.184.215.14", "https://93.184.215.14\r\nHost: x",
		"https://93.184.215.14/\x00", " https://93.184.215.14", "https://93.184.215.14/%zz", "\thttps://93.184.215.14",
		"https://93.184.215.14/" + strings.Repeat("a", 2048),
	}
	for _, host := range hosts {
		addresses = append(addresses, "https://"+host, "https://"+host+"/hook?x=93.184.215.14")
	}
	for _, address := range addresses {
		body := object{"url": address, "types": []string{"nothing.happens"}}
		for _, request := range [][2]string{{http.MethodPost, "/v1/webhooks/endpoints"}, {http.MethodPut, "/v1/webhooks/endpoints/" + endpoint.id()}} {
			if got := acme.do(request[0], request[1], body); got.status != http.StatusUnprocessableEntity {
				t.Errorf("%s %q: %d %s", request[0], address, got.status, got.text)
			}
		}
	}
	if got := acme.names("/v1/webhooks/endpoints", "url"); len(got) != 1 || got[0] != public {
		t.Errorf("endpoints: %q", got)
	}
}
