module trainer/cluster/pause

go 1.25.0

tool trainer/cluster/pause
