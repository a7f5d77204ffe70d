module tocsin.test/gojson

go 1.22
