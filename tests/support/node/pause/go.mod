module penstock.dev/tests/support/node/pause

go 1.24
