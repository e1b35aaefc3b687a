// Render one template over several conversations with Go's own text/template, as Ollama calls it.
package main

import (
	"encoding/json"
	"os"
	"strings"
	"text/template"
)

type message struct {
	Role    string
	Content string
}

func main() {
	var asked struct {
		Template      string
		Conversations [][]*message
	}
	if err := json.NewDecoder(os.Stdin).Decode(&asked); err != nil {
		panic(err)
	}
	parsed, err := template.New("").Option("missingkey=zero").Parse(asked.Template)
	if err != nil {
		panic(err)
	}
	answers := []map[string]string{}
	for _, messages := range asked.Conversations {
		var out strings.Builder
		if err := parsed.Execute(&out, map[string]any{"Messages": messages}); err != nil {
			answers = append(answers, map[string]string{"error": err.Error()})
		} else {
			answers = append(answers, map[string]string{"text": out.String()})
		}
	}
	json.NewEncoder(os.Stdout).Encode(answers)
}
