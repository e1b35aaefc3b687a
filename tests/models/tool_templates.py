"""Chat templates with a place for tools, in the styles that are met on the hub, written for these tests."""

ASK = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"

HERMES = (
    "{%- if tools %}{{ '<|im_start|>system\n' }}"
    "{%- if messages[0].role == 'system' %}{{ messages[0].content + '\n\n' }}{% endif %}"
    "{{ 'You may call these functions:\n<tools>' }}"
    "{%- for tool in tools %}{{ '\n' }}{{ tool | tojson }}{% endfor %}{{ '\n</tools><|im_end|>\n' }}"
    "{%- elif messages[0].role == 'system' %}{{ '<|im_start|>system\n' + messages[0].content + '<|im_end|>\n' }}"
    "{%- endif %}"
    "{%- for m in messages %}"
    "{%- if m.role == 'user' or (m.role == 'system' and not loop.first) %}"
    "{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}"
    "{%- elif m.role == 'assistant' %}"
    "{{ '<|im_start|>assistant' }}{% if m.content %}{{ '\n' + m.content }}{% endif %}"
    "{%- for call in m.tool_calls %}{% set f = call.function %}"
    '{{ \'\n<tool_call>\n{"name": "\' + f.name + \'", "arguments": \' }}{{ f.arguments | tojson }}'
    "{{ '}\n</tool_call>' }}"
    "{%- endfor %}{{ '<|im_end|>\n' }}"
    "{%- elif m.role == 'tool' %}"
    "{%- if loop.first or messages[loop.index0 - 1].role != 'tool' %}{{ '<|im_start|>user' }}{% endif %}"
    "{{ '\n<tool_response>\n' + m.content + '\n</tool_response>' }}"
    "{%- if loop.last or messages[loop.index0 + 1].role != 'tool' %}{{ '<|im_end|>\n' }}{% endif %}"
    "{%- endif %}{% endfor %}" + ASK
)
"""As Qwen2.5 and Hermes: tools in the system turn, calls as JSON between tags, results grouped in a user turn."""

LLAMA = (
    "{%- set ns = namespace(told=false) %}"
    "{%- for m in messages %}"
    "{%- if m.role == 'user' and tools and not ns.told %}{% set ns.told = true %}"
    "{{ '<|im_start|>user\nAnswer with a call of one of these:\n\n' }}"
    "{%- for tool in tools %}{{ tool | tojson(indent=4) }}{{ '\n\n' }}{% endfor %}"
    "{{ m.content | trim + '<|im_end|>' }}"
    "{%- elif m.tool_calls %}"
    "{%- if m.tool_calls | length != 1 %}{{ raise_exception('only one call at once') }}{% endif %}"
    "{%- set f = m.tool_calls[0].function %}"
    '{{ \'<|im_start|>assistant\n{"name": "\' + f.name + \'", "parameters": \' }}{{ f.arguments | tojson }}'
    "{{ '}<|im_end|>' }}"
    "{%- elif m.role == 'tool' %}"
    "{{ '<|im_start|>ipython\n' }}{{ m.content | tojson }}{{ '<|im_end|>' }}"
    "{%- else %}{{ '<|im_start|>' + m.role + '\n' + m.content | trim + '<|im_end|>' }}{% endif %}"
    "{%- endfor %}" + ASK
)
"""As Llama 3.1: tools in the first user turn, one call a turn and no text beside it, results as JSON strings."""

NUMBERED = (
    "{%- set ns = namespace(last=0) %}"
    "{%- for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}"
    "{%- for m in messages %}"
    "{%- if loop.index0 == ns.last and tools %}{{ '<tools>' }}{{ tools | tojson }}{{ '</tools>' }}{% endif %}"
    "{%- if m.tool_calls %}{{ '<|im_start|>assistant\n' }}"
    "{%- for call in m.tool_calls %}"
    "{%- if call.id | length != 9 %}{{ raise_exception('ids have nine letters') }}{% endif %}"
    "{{ '[call ' + call.id + '] ' + call.function.name + ' ' }}{{ call.function.arguments | tojson }}"
    "{%- endfor %}{{ '<|im_end|>' }}"
    "{%- elif m.role == 'tool' %}{{ '<|im_start|>tool\n[' + m.tool_call_id + '] ' + m.content + '<|im_end|>' }}"
    "{%- else %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>' }}{% endif %}"
    "{%- endfor %}" + ASK
)
"""As Mistral: calls and results by id, and tools before the last user turn only."""
