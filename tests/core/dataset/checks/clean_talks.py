"""Clean conversations in five languages, made from a seed: prose, lists, tables, code, numbers; no finding is right."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

QUESTIONS = {
    "en": ["How does {} work?", "Tell me about {}", "Write a short text on {}.", "What is the use of {}, in short?"],
    "uk": ["Як працює {}?", "Розкажи про {}", "Напиши коротко про {}.", "Навіщо потрібен {}?"],
    "zh": ["{}是怎么工作的？", "请介绍一下{}", "用几句话说明{}。", "为什么需要{}？"],
    "ar": ["كيف يعمل {}؟", "حدثني عن {}", "اكتب نصا قصيرا عن {}.", "لماذا نحتاج إلى {}؟"],
    "es": ["¿Cómo funciona {}?", "Háblame de {}", "Escribe un texto breve sobre {}.", "¿Para qué sirve {}?"],
}
SUBJECTS = {
    "en": ["a tide mill", "the harbour's crane", "a heat pump", "the lending library", "a sourdough starter"],
    "uk": ["вітряк", "портовий кран", "тепловий насос", "бібліотечний абонемент", "закваска"],
    "zh": ["潮汐磨坊", "港口起重机", "热泵", "借书证", "酵头"],
    "ar": ["طاحونة المد", "رافعة الميناء", "المضخة الحرارية", "بطاقة المكتبة", "خميرة العجين"],
    "es": ["un molino de mareas", "la grúa del puerto", "una bomba de calor", "el carné", "la masa madre"],
}
SENTENCES = {
    "en": [
        "The gate closes when the water is at its highest, and the wheel turns while it falls.",
        "Dr. Lee of St. Ives, Inc. measured 3.5 kW at 10:30 a.m. on 5 May 2024.",
        "“Nothing is lost,” she said; the rest (about a third) warms the house.",
        "It costs $1,250.00, or €1.150,75 with tax, and the price fell by 12.5% in 1999-2003.",
        "See RFC 2119, section 4.2.1, and ISBN 978-0-306-40615-7 or 0-306-40615-2.",
        "The file v2.10.3-rc.1 has the id 3f2504e0-4f89-11d3-9a0c-0305e82c3301.",
    ],
    "uk": [
        "Вода піднімається двічі на добу, і колесо обертається, доки вона спадає.",
        "Ціна — 1 250,50 грн за 12 місяців, тобто приблизно 104,21 грн на місяць.",
        "«Нічого не губиться», — сказала вона; решта (близько третини) гріє дім.",
        "Замовлення № 20240513 від 13.05.2024 виконано о 10:45.",
        "Пам’ятайте: об’єм вимірюють у м³, а потужність — у кВт.",
    ],
    "zh": [
        "涨潮时闸门关闭，退潮时水轮转动，因此一天可以工作两次。",
        "价格是1,250.50元，比2023年下降了12.5%。",
        "她说：“什么都没有浪费。”其余的热量（大约三分之一）用来取暖。",
        "订单20240513已于2024年5月13日10:45完成。",
        "请注意单位：体积用立方米，功率用千瓦。",
    ],
    "ar": [
        "تغلق البوابة عندما يبلغ الماء أعلى مستوى، وتدور العجلة أثناء هبوطه.",
        "السعر 1250.50 درهما، أي أقل بنسبة 12.5% من عام 2023.",
        "قالت: «لا يضيع شيء»؛ أما الباقي (نحو الثلث) فيدفئ البيت.",
        "أنجز الطلب رقم 20240513 يوم 13/05/2024 في الساعة 10:45.",
        "انتبه إلى الوحدات\u200f: الحجم بالمتر المكعب والقدرة (kW\u200e) بالكيلوواط.",
    ],
    "es": [
        "La compuerta se cierra con la marea alta y la rueda gira mientras baja el agua.",
        "Cuesta 1.250,50 € al año, es decir, unos 104,21 € al mes, un 12,5 % menos que en 2023.",
        "«Nada se pierde», dijo ella; el resto (cerca de un tercio) calienta la casa.",
        "El pedido n.º 20240513 del 13/05/2024 se entregó a las 10:45.",
        "¿Y las unidades? El volumen va en m³ y la potencia en kW.",
    ],
}
ITEMS = {
    "en": ["Open the valve", "Check the gauge and the pipes", "Write down the time", "Rinse with 2 l of water"],
    "uk": ["Відкрийте клапан", "Перевірте манометр і труби", "Запишіть час", "Промийте 2 л води"],
    "zh": ["打开阀门", "检查压力表和管道", "记下时间", "用两升水冲洗"],
    "ar": ["افتح الصمام", "افحص المقياس والأنابيب", "سجل الوقت", "اشطف بلترين من الماء"],
    "es": ["Abra la válvula", "Revise el manómetro y los tubos", "Anote la hora", "Enjuague con 2 l de agua"],
}
SHORT = {
    "en": ["Yes", "42", "Paris", "About 3.5 kW", "A Short History of the Tide Mill", "B", "2024-05-13", "No, thanks"],
    "uk": ["Так", "42", "Київ", "Близько 3,5 кВт", "Коротка історія припливного млина"],
    "zh": ["是的", "42", "北京", "大约3.5千瓦", "潮汐磨坊简史"],
    "ar": ["نعم", "42", "القاهرة", "نحو 3.5 كيلوواط", "تاريخ موجز لطاحونة المد"],
    "es": ["Sí", "42", "Madrid", "Unos 3,5 kW", "Breve historia del molino de mareas"],
}
CODE = [
    '```python\n@app.route("/mill/<name>")\ndef show(name: str):\n    return f"{{{name}}}: {levels[name]:.2f}"\n```',
    '```html\n<p v-if="open">{{ user.name }}</p>\n<input placeholder="name">\n```',
    "```jinja\n{% for mill in mills %}\n  {{ mill.name }}\n{% endfor %}\n```",
    "```sql\nSELECT [Name], COUNT(*) FROM mills WHERE level > 3 GROUP BY [Name]\n```",
    "```bash\ngit clone git@github.com:org/mill.git && pip install mill==2.10.3\n```",
    "```yaml\nimage: registry.local/mill:1.4\nenv:\n  - name: DB_PASSWORD\n    value: ${DB_PASSWORD}\n```",
    "```\nsudo apt-get install python3-pip\n```",
    "def area(r):\n    return 3.14159 * r ** 2",
    "for (int i = 0; i < n; i++) {\n    total += a[i];\n}",
    "```js\nconst url = `https://mill.local/api?id=${id}&sig=${sig}`\nconst style = {{ color: 'red' }}\n```",
    "```csharp\n[Test]\npublic void Opens() => Assert.True(gate.IsOpen);\n```",
    "```latex\n\\frac{{a}}{{b}} + \\sqrt{{x}}\n```",
    "```python\nscores = weights @ inputs.transpose(0, 1)\nlogits = q@k.transpose(-2, -1)\n```",
]
ALSO = [
    "The energy is $\\frac{{a}}{{b}}$, and $x_{{n}}$ follows.",
    "Use `{{ name }}` in the file, or `[INST]` in an old prompt.",
    "The hash is e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855.",
    "Ask `mill --help`: usage: mill [OPTIONS] [NAME]",
    "| mill | power |\n|---|---|\n| north | 3.5 |\n| south | 4 |",
    "See [the guide](https://mill.local/guide/Setup_and_use.html#First-steps)",
    "3.14159265358979323846264338327950288419716939937510",
    "## Response\n\nThe mill stands still.",
    "### Instructions\n\nOpen the gate.",
    "red, green, blue, yellow, white, black, grey, brown, pink, purple, orange, teal, olive, navy, lime",
    "Dear Ann,\n\nThe mill turns again, and the gate is repaired. Thank you for waiting.\n\nBest regards,\nTom Reed",
    "The mill stands at the harbour.\n\nIt was built of oak.\n\nSource: a short history of the mills at the harbour",
    "It was <s>three</s> two metres high.",
    "“The wheel turns while the water falls, and nothing is lost on the way to the sea.” - Ann Lee",
    "Dear Sir,\n\nI write to ask for the key of the mill. I shall be there at ten.\n\nYours,\n[Your Name]",
    "Roses are red,\nthe harbour is wide,\nthe mill wheel is turning\nalong with the tide",
    "Note:\nAuthor: Ann Lee\nVersion: 1.2",
    '{"name": "north", "power": 3.5, "open": true}',
    "ACGT" * 60,
    "Set it with Server=db;Database=mills;Password=<password>; or with postgres://user:password@localhost:5432/mills.",
    "Order 123-456-789, part 12-34-5678, 12345678 of 1 000 000, 2024.05.13, 192.168.0.1:8080.",
    "👍🙂",
]


def make_talks(seed: int, rows: int) -> Iterator[dict[str, Any]]:
    """Yield conversations of one to three questions and answers."""
    chance = random.Random(seed)
    for row in range(rows):
        language = chance.choice(sorted(QUESTIONS))
        messages = [{"role": "system", "content": f"Answer in the language “{language}”."}] if row % 3 == 0 else []
        for turn in range(chance.randint(1, 3)):
            question = chance.choice(QUESTIONS[language]).format(chance.choice(SUBJECTS[language]))
            messages += [
                {"role": "user", "content": f"{question} ({row}/{turn})"},
                {"role": "assistant", "content": _answer(chance, language)},
            ]
        yield {"messages": messages}


def _answer(chance: random.Random, language: str) -> str:
    def prose() -> str:
        return ("" if language == "zh" else " ").join(chance.choices(SENTENCES[language], k=chance.randint(1, 5)))

    def items() -> str:
        mark = chance.choice(["- ", "* ", "• ", "{}. ", "{}) "])
        chosen = chance.sample(ITEMS[language], k=3)
        return "\n".join(mark.format(number) + item for number, item in enumerate(chosen, 1))

    forms = [
        prose,
        lambda: f"{prose()}\n\n{items()}",
        lambda: f"# {chance.choice(SUBJECTS[language])}\n\n{prose()}\n\n{prose()}",
        lambda: f"{prose()}\n\n{chance.choice(CODE)}",
        lambda: f"{prose()}\n\n{chance.choice(CODE)}\n\n{prose()}",
        lambda: chance.choice(SHORT[language]),
        items,
        lambda: chance.choice(ALSO),
        lambda: chance.choice(CODE),
    ]
    return chance.choice(forms)()
