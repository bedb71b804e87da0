module gitstead.example/client

go 1.19
