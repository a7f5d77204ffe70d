module gocompress

go 1.19
