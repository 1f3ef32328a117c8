#!/bin/sh
echo "A wall of"
sed 's/^/  /' stones lime
echo "by $(whoami), process $$, on $(uname -sr)"
