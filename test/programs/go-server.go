// A Go server for tests, on port 8080:
//
//	/count          one more each time, kept in memory
//	/random?count=N N lines, each a value of crypto/rand, of math/rand and of math/rand/v2
//	/ticks          how often a ticker of 20 ms has fired
package main

import (
	crypto "crypto/rand"
	"encoding/hex"
	"fmt"
	old "math/rand"
	new "math/rand/v2"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"sync/atomic"
	"time"
)

func main() {
	if len(os.Args) > 1 {
		fmt.Println(runtime.Version())
		return
	}
	var count, ticks atomic.Int64
	go func() {
		for range time.Tick(20 * time.Millisecond) {
			ticks.Add(1)
		}
	}()
	http.HandleFunc("/count", func(answer http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(answer, count.Add(1))
	})
	http.HandleFunc("/ticks", func(answer http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(answer, ticks.Load())
	})
	http.HandleFunc("/random", func(answer http.ResponseWriter, question *http.Request) {
		lines, _ := strconv.Atoi(question.URL.Query().Get("count"))
		value := make([]byte, 16)
		for range lines {
			if _, err := crypto.Read(value); err != nil {
				panic(err)
			}
			fmt.Fprintf(answer, "%s %016x %016x\n", hex.EncodeToString(value), old.Uint64(), new.Uint64())
		}
	})
	if err := http.ListenAndServe(":8080", nil); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
